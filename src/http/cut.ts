/** What is repeated of somebody's input is cut: an answer or a log line is never as long as what was sent. */

/** Of an error's message, in bytes of JSON. */
const messageBytes = 800

/** The text, or its beginning where it takes more than `most` bytes as JSON. */
export function cut(text: string, most = messageBytes): string {
  // A code unit is six bytes at the most, as \u0000.
  if (text.length * 6 <= most) return text
  let shown = text.slice(0, most)
  for (;;) {
    const bytes = Buffer.byteLength(JSON.stringify(shown)) - 2
    if (bytes <= most) break
    shown = shown.slice(0, Math.min(shown.length - 1, Math.floor((shown.length * most) / bytes)))
  }
  return shown === text ? text : `${shown.toWellFormed()}…`
}
