/** The models of this project, in the order in which `node` asks them. */
import { Comment } from './comment.ts'

export { prisma } from './prisma.ts'
export const models = [Comment]
/** The embedded worker's thread imports them by it. */
export const url = import.meta.url
