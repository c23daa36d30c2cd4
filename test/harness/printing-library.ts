/** Preloaded by a test: on SIGUSR2 it prints as libraries do, the same text again and again, and many texts. */
process.on('SIGUSR2', () => {
  for (let i = 0; i < 3; i += 1) console.warn('the same text', i)
  console.error(new Error('an error that a library prints'))
  console.log(`long ${'x'.repeat(10_000)}`)
  for (let i = 0; i < 200; i += 1) console.warn(`text ${i}`)
})
