/** A time of day, of this place; with the date if it was not today. */
import { minute, time } from '../format.ts'

export function Time({ at, seconds = false }: { at: string | number; seconds?: boolean }) {
  const date = new Date(at)
  const iso = date.toISOString()
  return (
    <time dateTime={iso} title={date.toLocaleString('en', { dateStyle: 'medium', timeStyle: 'long' })}>
      {seconds ? time(iso) : minute(at)}
    </time>
  )
}
