/**
 * Where the project is: its prisma/schema.prisma, its migrations and its models. From a checkout of Spillway (TypeScript) it is the checkout;
 * from the package `spillway` (JavaScript) it is the working directory.
 */
import { pathToFileURL } from 'node:url'

export const isPackage = import.meta.url.endsWith('.js')

/** With a slash at the end. */
export const project = isPackage ? pathToFileURL(`${process.cwd()}/`) : new URL('../../', import.meta.url)
