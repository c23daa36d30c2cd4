/** What the package `spillway` exports. Its processes run by the command `spillway`; these are for models, and for other programs. */
export { type Config, ConfigError, readConfig } from './config.ts'
export type { FieldsOf } from './graphql/builder.ts'
export { type Definition, ModelError, modelsOf } from './model/define.ts'
export type { Log } from './model/log.ts'
export type { Model } from './model/model.ts'
export type { Table } from './model/table.ts'
export { type Given, type Running, startApi, startWorker } from './start.ts'
export { openLog } from './telemetry/log.ts'
