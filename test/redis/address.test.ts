/** The form of a Redis URL (FC15), the same for QUEUE_URL and CACHE_URL. */
import { describe, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { parseRedisUrl, redisUrlProblem } from '../../src/redis/address.ts'

const plain = { port: 6379, db: 0, username: undefined, password: undefined, tls: false, prefix: 'spillway' }

test.each([
  ['redis://queue', { ...plain, host: 'queue' }],
  ['redis://queue/', { ...plain, host: 'queue' }],
  ['redis://queue/0', { ...plain, host: 'queue' }],
  ['redis://queue:7000/15', { ...plain, host: 'queue', port: 7000, db: 15 }],
  ['rediss://queue.internal:6380/1', { ...plain, host: 'queue.internal', port: 6380, db: 1, tls: true }],
  ['redis://:secret@queue', { ...plain, host: 'queue', password: 'secret' }],
  ['redis://api:secret@queue', { ...plain, host: 'queue', username: 'api', password: 'secret' }],
  ['redis://api:queue@queue', { ...plain, host: 'queue', username: 'api', password: 'queue' }],
  [
    'redis://a%40b:%25%2F%23%3F%40%3A%20%C3%A9@queue',
    { ...plain, host: 'queue', username: 'a@b', password: '%/#?@: é' },
  ],
  ["redis://:a^b|c[d]e`{}$&'()*+,;=@queue", { ...plain, host: 'queue', password: "a^b|c[d]e`{}$&'()*+,;=" }],
  ['redis://[::1]:7000/2', { ...plain, host: '::1', port: 7000, db: 2 }],
  ['redis://127.0.0.1?prefix=a.b-c_d:1', { ...plain, host: '127.0.0.1', prefix: 'a.b-c_d:1' }],
  ['redis://queue/3?prefix=other', { ...plain, host: 'queue', db: 3, prefix: 'other' }],
])('parseRedisUrl reads %s', (text, expected) => {
  expect(parseRedisUrl(text)).toEqual(expected)
  expect(() => readConfig({ QUEUE_URL: text, CACHE_URL: text }, {})).not.toThrow()
})

describe('readConfig refuses a Redis URL, with the name of the setting and without its password,', () => {
  test.each([
    ['?enableOfflineQueue=true', 'the parameter enableOfflineQueue', 'prefix=NAME'],
    ['?autoResendUnfulfilledCommands=true&enableOfflineQueue=true', 'the parameter autoResendUnfulfilledCommands'],
    ['?typo=1', 'the parameter typo'],
    ['?db=3', 'the parameter db', '/1'],
    ['?family=6', 'the parameter family'],
    ['?tls=true', 'the parameter tls', 'rediss://'],
    ['?PREFIX=x', 'the parameter PREFIX'],
    ['?prefix=a&typo=1', 'the parameter typo'],
    ['?prefix=a&prefix=b', 'more than once'],
    ['?prefix=', 'has a prefix that cannot be used'],
    ['?prefix=a{b}', 'has a prefix that cannot be used'],
    ['?prefix=a}b', 'has a prefix that cannot be used'],
    ['?prefix=a*', 'has a prefix that cannot be used'],
    ['?prefix=a+b', 'has a prefix that cannot be used'],
    ['?prefix=%E2%82%AC', 'has a prefix that cannot be used'],
    [`?prefix=${'x'.repeat(65)}`, 'has a prefix that cannot be used'],
    ['/01', 'a path that is no database'],
    ['/1/2', 'a path that is no database'],
    ['/1/', 'a path that is no database'],
    ['/-1', 'a path that is no database'],
    ['/abc', 'a path that is no database'],
    ['/1.5', 'a path that is no database'],
    ['/0x1', 'a path that is no database'],
    ['/%31', 'a path that is no database'],
    ['/9999999999', 'a path that is no database'],
    ['#1', '#'],
    ['/0#', '#'],
  ])('for the part after the host: %s', (rest, ...words) => {
    for (const name of ['QUEUE_URL', 'CACHE_URL']) {
      const refused = () => readConfig({ [name]: `redis://:hunter2@queue.host${rest}` }, {})
      for (const word of words) expect(refused).toThrow(word)
      expect(refused).toThrow(name)
      expect(refused).not.toThrow(/hunter2/)
    }
  })

  test.each([
    'redis://:hun%ter2@queue',
    'redis://:hunter2%@queue',
    'redis://:hunter2%ff@queue',
    'redis://hunter2%zz:x@queue',
    'redis://:hunter2/x@queue',
    'redis://user:hunter2#x@queue',
    'redis://user:1?hunter2=x@queue',
    'redis://user:1/hunter2@queue',
    'redis://hunter2@queue',
    'redis://user:@hunter2queue',
    'redis://:hunter2@',
    'redis://:hunter2@:6379',
    'redis:///hunter2.sock',
    'redis://:hunter2@/0',
    'redis:hunter2',
    'redis:/hunter2',
    'redis://:hunter2@queue:0',
    'redis://:hunter2@queue:65536',
    'redis://:hunter2@queue:port',
    'redis://:hunter2@a:1,b:2',
    'redis://:hunter2@que ue',
    'redis://:hunter2@que\nue',
    'redis://:hunter2@que%20ue',
    'redis://:hunter2@que*ue',
    'redis://:hunter2@[::1',
    'redis+unix://hunter2',
    'redis+sentinel://:hunter2@queue/mymaster',
    'unix:///hunter2.sock',
    'redis-socket:///hunter2',
    'http://:hunter2@queue',
  ])('for its form: %s', (text) => {
    expect(redisUrlProblem(text)).toEqual(expect.any(String))
    for (const name of ['QUEUE_URL', 'CACHE_URL']) {
      let message = ''
      try {
        readConfig({ [name]: text }, {})
      } catch (error) {
        message = (error as Error).message
      }
      expect(message).toContain(name)
      expect(message).not.toContain('hunter2')
      expect(message.match(/^ {2}- /gm)).toHaveLength(1)
    }
  })
})
