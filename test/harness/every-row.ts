/** Rows of the model Every, with any values of each column type, for property tests. */
import { Decimal } from 'decimal.js'
import fc from 'fast-check'
import type { Row } from '../../src/model/model.ts'
import type { ColumnType } from '../../src/model/table.ts'
import { Every } from './models.ts'

const values: Record<ColumnType, fc.Arbitrary<unknown>> = {
  String: fc.string({ unit: 'binary' }),
  Int: fc.integer(),
  BigInt: fc.bigInt(),
  Float: fc.double({ noNaN: true, noDefaultInfinity: true }),
  Decimal: fc.constantFrom('0', '12.50', '-1e-20', '123456789012345678901234567890.5').map((text) => new Decimal(text)),
  Boolean: fc.boolean(),
  DateTime: fc.date({ min: new Date('1000-01-01'), max: new Date('9999-12-31'), noInvalidDate: true }),
  Json: fc.json().map((text) => JSON.parse(text) ?? {}),
  Bytes: fc.uint8Array({ maxLength: 8 }),
  Enum: fc.constantFrom('HAPPY', 'SAD'),
}

const dates = { createdAt: values.DateTime, savedAt: values.DateTime }
/** Any row. */
export const everyRow = fc.record({
  id: fc.uuid(),
  ...dates,
  ...Object.fromEntries(
    Every.columns.map(({ name, type, nullable }) => [name, nullable ? fc.option(values[type]) : values[type]]),
  ),
}) as fc.Arbitrary<Row>

/** Its columns. */
export const everyField = ['id', ...Object.keys(dates), ...Every.columns.map(({ name }) => name)]
