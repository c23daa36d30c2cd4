/** `npm run docs`: writes the files that are generated from the code, .env.example and schema.graphql. Tests fail when they differ. */
import { writeFileSync } from 'node:fs'
import { printSchema } from 'graphql'
import { envExample } from '../config.ts'
import { makeSchema } from '../graphql/schema.ts'
import { listModels } from '../model/define.ts'
import { models, prisma } from '../models/index.ts'

writeFileSync('.env.example', envExample())
writeFileSync('schema.graphql', `${printSchema(makeSchema(listModels(models), prisma))}\n`)
