/** Straight to a stream of NATS JetStream: the publishes of one tick go in one write, each is acknowledged. */
import { jetstream } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { serveSaves } from './mercurius.ts'
import { need } from './peer.ts'

const stream = jetstream(await connect({ port: Number(need('NATS_PORT')) }))

await serveSaves((id, content) => stream.publish('save', JSON.stringify({ id, content, at: Date.now() })))
