/** Content, the model that Spillway has out of the box, for tests of the parts that stand under the models. */
import { randomUUID } from 'node:crypto'
import { limitColumns, listModels } from '../../src/model/define.ts'
import { encode } from '../../src/model/message.ts'
import { dataText, digestOf, type Model, type Models, type Row } from '../../src/model/model.ts'
import { Content as content } from '../../src/models/content.ts'
import * as given from '../../src/models/index.ts'

export { given }

/** As a process has them under CONTENT_MAX_BYTES' default. */
export const models: Models = limitColumns(listModels([content]), 65_536)
export const Content: Model = models.get('Content')!

export interface ContentRow extends Row {
  content: string
}

export function contentRow(content: string, row: Partial<ContentRow> = {}): ContentRow {
  const now = new Date()
  return { id: randomUUID(), createdAt: now, savedAt: now, ...row, content }
}

/** The digest of a save of this text. */
export const digestOfContent = (content: string): string => digestOf(Content, { content })

/** The message of a save of this text. */
export function contentMessage(id: string, content: string, at = Date.now(), trace?: string): string {
  return encode({ model: Content, id, at, data: dataText(Content, { content }), trace })
}
