/** SQLite's schema, made from the one for MySQL: the same models, without what only MySQL has. */

/** Strings and comments are copied as they are; what is between them is code. */
const parts = /("(?:[^"\\]|\\.)*")|(\/\/[^\n]*|\/\*[\s\S]*?\*\/)|[^"/]+|\//g

const HEADER = `// Generated from prisma/schema.prisma by prisma/generator. Do not edit.

generator client {
  provider            = "prisma-client"
  output              = "./generated"
  importFileExtension = "ts"
}

datasource db {
  provider = "sqlite"
}
`

export function sqliteSchema(schema: string): string {
  const text = withoutStrings(schema)
  const code = text.code
    // Our own blocks, each with the comment above it, and the comment at the beginning of the file.
    .replace(/(?:^%\d+%\n)*^(?:generator|datasource)[ \t]+\w+[ \t]*\{[^}]*\}/gm, '')
    .replace(/^\s*(?:%\d+%\n)+\s*\n/, '')
    .replace(/@db\.\w+(?:[ \t]*\([^)]*\))?/g, '')
    .replace(/@@fulltext[ \t]*\([^)]*\)/g, '')
    // The first characters of a column: SQLite's indexes have no such length.
    .replace(/\([ \t]*length:[^),]*\)/g, '')
    .replace(/\blength:[^),]*,[ \t]*|,[ \t]*length:[^),]*/g, '')
    .replace(/@(?:relation|id|@id)[ \t]*\((?:[^()]|\([^()]*\))*\)/g, withoutMap)
    .replace(/[ \t]+$/gm, '')
    .replace(/\n{3,}/g, '\n\n')
  return `${HEADER}\n${text.restore(code).trim()}\n`
}

/** SQLite names no foreign and no primary key. */
const withoutMap = (attribute: string) =>
  attribute.replace(/\bmap:[^,)]*,\s*|,?\s*\bmap:[^,)]*/, '').replace(/\(\s*\)$/, '')

/** Strings and comments as numbered marks (%0%): no pattern above matches them, and Prisma has no % outside of strings and comments. */
function withoutStrings(schema: string) {
  const kept: string[] = []
  const code = schema.replace(parts, (part, string?: string, comment?: string) => {
    if (string === undefined && comment === undefined) return part
    return `%${kept.push(part) - 1}%`
  })
  return { code, restore: (text: string) => text.replace(/%(\d+)%/g, (_, i) => kept[Number(i)]!) }
}
