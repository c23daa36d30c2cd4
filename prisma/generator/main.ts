/** The generator as a program that Prisma's command line runs: `provider` in a schema.prisma names it. */
import helper from '@prisma/generator-helper'
import { generateTables, manifest } from './generator.ts'

helper.generatorHandler({ onManifest: () => manifest, onGenerate: generateTables })
