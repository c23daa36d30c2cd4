/** node:http that sends one text, of LENGTH bytes, to whoever asks: the limit of reading. */
import { serve } from './peer.ts'

const length = Number(process.env.LENGTH)
const text = `{"data":{"contents":"${'x'.repeat(length)}`.slice(0, length - 3)
const body = Buffer.from(`${text}"}}`)

serve((_request, response) => {
  response.writeHead(200, { 'content-type': 'application/json; charset=utf-8', 'content-length': body.length })
  response.end(body)
})
