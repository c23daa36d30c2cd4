/** The files at the root that nothing else runs: the CI script and the licence. */
import { execFileSync } from 'node:child_process'
import { accessSync, constants, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { root } from '../harness/imports.ts'

const read = (name: string) => readFileSync(join(root, name), 'utf8')

test('.ci/run is an executable bash script of three steps, and stops at the first that fails', () => {
  accessSync(join(root, '.ci/run'), constants.X_OK)
  execFileSync('bash', ['-n', join(root, '.ci/run')])
  const lines = read('.ci/run').split('\n')
  expect(lines[0]).toBe('#!/usr/bin/env bash')
  expect(lines).toContain('set -euo pipefail')
  expect(lines.filter((line) => line.startsWith('npm'))).toEqual(['npm ci', 'npm run check', 'npm test'])
})

test('the licence is the one that package.json names', () => {
  expect(JSON.parse(read('package.json')).license).toBe('MIT')
  expect(read('LICENSE')).toMatch(/^MIT License\n\nCopyright \(c\) \d{4} The Spillway authors\n/)
})
