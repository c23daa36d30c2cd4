/** The models of this Spillway, in the order in which `node` asks them. Yours go here. */
import { Comment } from './comment.ts'
import { Content } from './content.ts'
import { Post } from './post.ts'

export { prisma } from './prisma.ts'
export const models = [Content, Post, Comment]
/** The embedded worker's thread imports them by it. */
export const url = import.meta.url
