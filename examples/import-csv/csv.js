/** Reads CSV (RFC 4180): fields in quotes may have commas, line breaks and doubled quotes. */
import { createReadStream } from 'node:fs'

/** The fields of each record, and the line that it begins in. A blank line is no record; an empty value alone in its line is `""`. */
export async function* readCsv(file) {
  let fields = []
  let field = ''
  let isBlank = true
  let isQuoted = false
  let wasQuote = false
  let line = 1
  let begin = 1
  const end = () => {
    const record = { fields: [...fields, field], line: begin }
    fields = []
    field = ''
    isBlank = true
    return record
  }
  for await (const chunk of createReadStream(file, { encoding: 'utf8' })) {
    for (const char of chunk) {
      if (char === '\n') line += 1
      // The second of two quotes, or the text between quotes.
      if (isQuoted && (char === '"' || !wasQuote)) {
        if (char !== '"' || wasQuote) field += char
        wasQuote = char === '"' && !wasQuote
        continue
      }
      isQuoted = false
      wasQuote = false
      if (char === '\n') {
        if (!isBlank) yield end()
        begin = line
      } else if (char !== '\r' && !(char === '\ufeff' && line === 1 && isBlank)) {
        if (char === '"' && field === '') isQuoted = true
        else if (char === ',') {
          fields.push(field)
          field = ''
        } else field += char
        isBlank = false
      }
    }
  }
  if (!isBlank) yield end()
}
