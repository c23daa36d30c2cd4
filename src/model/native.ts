/**
 * What a column takes by its type in MySQL (`@db.…`), and so on SQLite, too: a model has the same limits on both. Sources: the reference
 * manuals of MySQL 8.4 and MariaDB, and Prisma's default types.
 */
import type { ColumnType } from './table.ts'

export interface NativeLimits {
  maxBytes?: number
  maxLength?: number
  exactBytes?: number
  min?: unknown
  max?: unknown
  digits?: readonly [before: number, after: number]
  trimsEnd: boolean
}

type Args = readonly string[]

/** By type of the database; the first one is Prisma's default. A text says why a type cannot be used, and what to use. */
const types: Record<ColumnType, Record<string, (args: Args) => NativeLimits | string>> = {
  String: {
    VarChar: ([n = '191']) => ({ maxLength: Number(n), trimsEnd: false }),
    // CHAR loses spaces at its end when it is read.
    Char: ([n = '1']) => ({ maxLength: Number(n), trimsEnd: true }),
    TinyText: () => ({ maxBytes: 255, trimsEnd: false }),
    Text: () => ({ maxBytes: 65_535, trimsEnd: false }),
    MediumText: () => ({ maxBytes: 16_777_215, trimsEnd: false }),
    LongText: () => ({ trimsEnd: false }),
  },
  Int: {
    Int: () => between(-2_147_483_648, 2_147_483_647),
    TinyInt: () => between(-128, 127),
    SmallInt: () => between(-32_768, 32_767),
    MediumInt: () => between(-8_388_608, 8_388_607),
    UnsignedTinyInt: () => between(0, 255),
    UnsignedSmallInt: () => between(0, 65_535),
    UnsignedMediumInt: () => between(0, 16_777_215),
    // GraphQL's Int ends there.
    UnsignedInt: () => between(0, 2_147_483_647),
  },
  BigInt: {
    BigInt: () => between(-(2n ** 63n), 2n ** 63n - 1n),
    // SQLite's integers end there.
    UnsignedBigInt: () => between(0n, 2n ** 63n - 1n),
  },
  Float: {
    Double: () => between(-Number.MAX_VALUE, Number.MAX_VALUE),
    Float: () => 'has the type @db.Float, which rounds; use @db.Double',
  },
  Decimal: {
    Decimal: ([p = '65', s = '30']) => ({ digits: [Number(p) - Number(s), Number(s)], trimsEnd: false }),
  },
  Boolean: { TinyInt: () => ({ trimsEnd: false }) },
  DateTime: {
    DateTime: ([n = '3']) =>
      Number(n) >= 3
        ? between(new Date('1000-01-01T00:00:00.000Z'), new Date('9999-12-31T23:59:59.999Z'))
        : `has the type @db.DateTime(${n}), which rounds; use @db.DateTime(3)`,
  },
  Json: { Json: () => ({ trimsEnd: false }) },
  Bytes: {
    LongBlob: () => ({ trimsEnd: false }),
    // BINARY adds zeros at the end of a shorter value.
    Binary: ([n = '1']) => ({ exactBytes: Number(n), maxBytes: Number(n), trimsEnd: false }),
    VarBinary: ([n = '191']) => ({ maxBytes: Number(n), trimsEnd: false }),
    TinyBlob: () => ({ maxBytes: 255, trimsEnd: false }),
    Blob: () => ({ maxBytes: 65_535, trimsEnd: false }),
    MediumBlob: () => ({ maxBytes: 16_777_215, trimsEnd: false }),
  },
  Enum: { Enum: () => ({ trimsEnd: false }) },
}

/** The limits, or why the type cannot be used. */
export function nativeLimits(
  type: ColumnType,
  native: readonly [name: string, args: Args] | undefined,
): NativeLimits | string {
  const known = types[type]
  const [name, args] = native ?? [Object.keys(known)[0]!, []]
  const limits = Object.hasOwn(known, name) ? known[name] : undefined
  return limits
    ? limits(args)
    : `has the type @db.${name}; expected one of ${Object.keys(known)
        .map((one) => `@db.${one}`)
        .join(', ')}`
}

function between(min: unknown, max: unknown): NativeLimits {
  return { min, max, trimsEnd: false }
}
