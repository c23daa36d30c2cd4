/** The form of a Redis URL (FC15), the same for QUEUE_URL, EVENTS_URL and CACHE_URL. */
import { describe, expect, test } from 'vitest'
import { describeUrl } from '../../src/config/urls.ts'
import { readConfig } from '../../src/config.ts'
import { parseRedisUrl, redisUrlProblem } from '../../src/redis/address.ts'

const none = { username: undefined, password: undefined }
const plain = {
  setting: 'QUEUE_URL',
  kind: 'single',
  master: undefined,
  sentinel: none,
  redis: none,
  db: 0,
  tls: false,
  prefix: 'spillway',
}
const one = (host: string, port = 6379) => ({ ...plain, hosts: [{ host, port }] })
const password = (text: string, username?: string) => ({ redis: { username, password: text } })
const three = (port: number) => ['a', 'b.internal', '::1'].map((host) => ({ host, port }))
const sentinels = { ...plain, kind: 'sentinel', hosts: three(26379), master: 'my.master-1' }
const nodes = { ...plain, kind: 'cluster', hosts: three(6379) }

test.each([
  ['redis://queue', one('queue')],
  ['redis://queue/', one('queue')],
  ['redis://queue/0', one('queue')],
  ['redis://queue:7000/15', { ...one('queue', 7000), db: 15 }],
  ['rediss://queue.internal:6380/1', { ...one('queue.internal', 6380), db: 1, tls: true }],
  ['redis://:secret@queue', { ...one('queue'), ...password('secret') }],
  ['redis://api:secret@queue', { ...one('queue'), ...password('secret', 'api') }],
  ['redis://api:queue@queue', { ...one('queue'), ...password('queue', 'api') }],
  ['redis://a%40b:%25%2F%23%3F%40%3A%20%C3%A9@queue', { ...one('queue'), ...password('%/#?@: é', 'a@b') }],
  ["redis://:a^b|c[d]e`{}$&'()*+,;=@queue", { ...one('queue'), ...password("a^b|c[d]e`{}$&'()*+,;=") }],
  ['redis://[::1]:7000/2', { ...one('::1', 7000), db: 2 }],
  ['redis://127.0.0.1?prefix=a.b-c_d:1', { ...one('127.0.0.1'), prefix: 'a.b-c_d:1' }],
  ['redis://queue/3?prefix=other', { ...one('queue'), db: 3, prefix: 'other' }],
  ['redis+sentinel://a,b.internal,[::1]/my.master-1', sentinels],
  ['REDISS+Sentinel://a,b.internal:26379,[::1]/my.master-1/', { ...sentinels, tls: true }],
  [
    'redis+sentinel://u:x%2Cy,z@a:1,b:2/m/3?prefix=p&sentinelUser=s%40&sentinelPassword=a+b%26',
    {
      ...sentinels,
      ...password('x,y,z', 'u'),
      hosts: [
        { host: 'a', port: 1 },
        { host: 'b', port: 2 },
      ],
      master: 'm',
      sentinel: { username: 's@', password: 'a+b&' },
      db: 3,
      prefix: 'p',
    },
  ],
  ['redis+cluster://a,b.internal,[::1]', nodes],
  [
    'rediss+cluster://:secret@a,b.internal,[::1]/?prefix=p',
    { ...nodes, ...password('secret'), tls: true, prefix: 'p' },
  ],
  ['redis+cluster://a:7000', { ...nodes, hosts: [{ host: 'a', port: 7000 }] }],
])('parseRedisUrl reads %s', (text, expected) => {
  expect(parseRedisUrl(text)).toEqual(expected)
  expect(() => readConfig({ QUEUE_URL: text, EVENTS_URL: text, CACHE_URL: text }, {})).not.toThrow()
})

// EVENTS_URL must be of the queue's kind.
const queue = { QUEUE_URL: 'redis://queue' }
const settings = ['QUEUE_URL', 'EVENTS_URL', 'CACHE_URL']

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
    for (const name of settings) {
      const refused = () => readConfig({ ...queue, [name]: `redis://:hunter2@queue.host${rest}` }, {})
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
    'redis+sentinel://:hunter2@queue',
    'redis+sentinel://:hunter2@queue/',
    'redis+sentinel://:hunter2@queue/my master',
    'redis+sentinel://:hunter2@queue/my%20master',
    'redis+sentinel://:hunter2@queue/mymaster/01',
    'redis+sentinel://:hunter2@queue/mymaster/0/1',
    'redis+sentinel://:hunter2@queue/mymaster?sentinelUser=x',
    'redis+sentinel://:hunter2@queue/mymaster?sentinelPassword=',
    'redis+sentinel://:hunter2@queue/mymaster?sentinelPassword=hunter2&sentinelPassword=x',
    'redis+sentinel://:hunter2@queue/mymaster?sentinelPassword=hunter2%zz',
    'redis+sentinel://:hunter2@queue/mymaster?sentinelpassword=hunter2',
    'redis+cluster://:hunter2@queue?sentinelPassword=hunter2',
    'redis://:hunter2@queue?sentinelPassword=hunter2',
    'redis+cluster://:hunter2@queue/0',
    'redis+cluster://:hunter2@queue/mymaster',
    'redis+cluster://:hunter2@a,,b',
    'redis+cluster://:hunter2@a,b,',
    'redis+cluster://:hunter2@,a',
    'redis+cluster://:hunter2@a:7000,b:0',
    'redis+cluster://:hunter2@a:7000,b:70000',
    'redis+cluster://:hunter2@a:7000,b:port',
    'redis+cluster://:hunter2@a:7000,b:',
    'redis+cluster://:hunter2@a:7000,A:7000',
    'redis+cluster://:hunter2@a,a:6379',
    'redis+cluster://:hunter2@a;b',
    'redis+cluster://:hunter2@a|b',
    'redis+cluster://:hunter2@a, b',
    'redis+cluster://:hunter2@::1,b',
    'redis+cluster://:hunter2@[::1,b',
    'redis+cluster://:hunter2@a:7000,redis://:hunter2@b:7000',
    'redis+cluster://:hunter2@a:7000,:hunter2@b:7000',
    'redis+sentinel://:hunter2@a:26379/mymaster,b:26379/mymaster',
    'redis+clusters://:hunter2@a',
    'redis+tls://:hunter2@a',
    'unix:///hunter2.sock',
    'redis-socket:///hunter2',
    'http://:hunter2@queue',
  ])('for its form: %s', (text) => {
    expect(redisUrlProblem(text)).toEqual(expect.any(String))
    for (const name of settings) {
      let message = ''
      try {
        readConfig({ ...queue, [name]: text }, {})
      } catch (error) {
        message = (error as Error).message
      }
      expect(message).toContain(name)
      expect(message).not.toContain('hunter2')
      expect(message.match(/^ {2}- /gm)).toHaveLength(1)
    }
  })
})

test.each([
  ['redis://:hunter2@a:1,b:2', 'has several hosts', 'redis+sentinel://', 'redis+cluster://'],
  ['redis+cluster://:hunter2@a:1,,b:2', 'number 2 is blank'],
  ['redis+cluster://:hunter2@a:1,b:2,a:1', 'numbers 1 and 3 are the same'],
  ['redis+cluster://:hunter2@a:1,b:99999', 'number 2 is not followed by a port from 1 to 65535'],
  ['redis+cluster://:hunter2@a:1/1', 'has a path, and a cluster has no databases'],
  ['redis+sentinel://:hunter2@a:1', 'has no name of a master', '/MASTER'],
  ['redis+sentinel://:hunter2@a:1/m?sentinelUser=s', 'sentinelUser without a sentinelPassword'],
  ['redis+cluster://:hunter2@a:1?sentinelPassword=hunter2', 'the parameter sentinelPassword', 'prefix=NAME'],
])('readConfig says what is wrong with %s', (text, ...words) => {
  for (const word of words) expect(() => readConfig({ QUEUE_URL: text }, {})).toThrow(word)
})

test('readConfig has the events log where the queue is, or where EVENTS_URL says, and of the same kind', () => {
  const redis = 'redis+cluster://a:1,b:2'
  expect(readConfig({ QUEUE_URL: redis }, {}).eventsUrl).toBe(redis)
  expect(readConfig({ QUEUE_URL: redis, EVENTS_URL: 'redis://c' }, {}).eventsUrl).toBe('redis://c')
  expect(readConfig({ QUEUE_URL: 'file:./q.db', EVENTS_URL: 'file:q.db' }, {}).eventsUrl).toBe('file:q.db')
  const embedded = () => readConfig({ EVENTS_URL: 'redis://:hunter2@c' }, {})
  expect(embedded).toThrow('EVENTS_URL and QUEUE_URL=file:… do not fit together')
  expect(embedded).not.toThrow('hunter2')
  expect(() => readConfig({ EVENTS_URL: 'file:./events.db' }, {})).toThrow('leave EVENTS_URL out')
  expect(() => readConfig({ QUEUE_URL: redis, EVENTS_URL: 'file:./q.db' }, {})).toThrow('are of different kinds')
})

test('the settings name the secrets of a URL with several hosts, and describe it without them', () => {
  const url = 'redis+sentinel://user:p%2Cassword@a:1,b:2/mymaster/1?sentinelUser=s&sentinelPassword=sec+ret%26'
  const { secrets } = readConfig({ QUEUE_URL: url, EVENTS_URL: 'redis+cluster://:elsewhere@a,b:1' }, {})
  for (const text of ['p%2Cassword', 'p,assword', 'sec+ret%26', 'sec+ret&', 'elsewhere'])
    expect(secrets).toContain(text)
  expect(describeUrl(url)).toBe('redis+sentinel://a:1,b:2/mymaster/1')
  expect(describeUrl('redis+cluster://:elsewhere@a,[::1]:1?prefix=x')).toBe('redis+cluster://a,[::1]:1')
})
