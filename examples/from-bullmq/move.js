/**
 * Moves the jobs that BullMQ has not done yet to Spillway, when the API and the worker from before have stopped. It may be run again after
 * any failure: a job goes when Spillway has its save on disk, and a save that is sent twice under one id becomes one row.
 */
import { openQueue } from './queue.js'

const spillway = process.env.SPILLWAY_URL ?? 'http://127.0.0.1:8080'
const mutation = 'mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId } }'

async function saveMany(inputs) {
  const response = await fetch(`${spillway}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/graphql-response+json' },
    body: JSON.stringify({ query: mutation, variables: { inputs } }),
  })
  const { errors } = await response.json()
  if (errors) throw new Error(errors[0].message)
}

const queue = openQueue()
let moved = 0
for (;;) {
  const jobs = await queue.getJobs(['waiting', 'paused', 'prioritized', 'delayed', 'failed'], 0, 499)
  if (jobs.length === 0) break
  await saveMany(jobs.map(({ data: { id, content } }) => ({ id, content })))
  await Promise.all(jobs.map((job) => job.remove()))
  moved += jobs.length
}
const { active } = await queue.getJobCounts('active')
console.log(
  `${moved} jobs moved${active > 0 ? `; ${active} are being worked on: stop the worker, and run this again` : ''}`,
)
await queue.close()
