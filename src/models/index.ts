/** The models of this Spillway, in the order in which `node` asks them. Yours go here. */
import { Content } from './content.ts'

export { prisma } from './prisma.ts'
export const models = [Content]
/** The embedded worker's thread imports them by it. */
export const url = import.meta.url
