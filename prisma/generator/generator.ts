/**
 * The Prisma generator of Spillway. Writes what Spillway needs beside the client: the tables that defineModel reads, the schema of SQLite, and
 * the definitions of tables that `npm run migration` compares. It runs before the sources are there (in the Dockerfile), so it imports types
 * of src/ only.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { GeneratorManifest, GeneratorOptions } from '@prisma/generator-helper'
import { definitionsOf } from './definitions.ts'
import { sqliteSchema } from './sqlite-schema.ts'
import { tablesOf, tablesSource } from './tables.ts'

export const manifest: GeneratorManifest = {
  prettyName: 'Tables of Spillway, schema of SQLite',
  defaultOutput: './mysql/generated',
}

export async function generateTables({ dmmf, datamodel, schemaPath, generator }: GeneratorOptions): Promise<void> {
  const folder = generator.output!.value!
  write(resolve(folder, 'tables.ts'), tablesSource(tablesOf(dmmf.datamodel)))
  write(resolve(folder, 'definitions.json'), JSON.stringify(definitionsOf(dmmf.datamodel), null, 2))
  write(resolve(dirname(schemaPath), 'sqlite/schema.prisma'), sqliteSchema(datamodel))
}

function write(path: string, text: string) {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
}
