/** MariaDB through Prisma. */
import { PrismaMariaDb } from '@prisma/adapter-mariadb'
import { PrismaClient } from '../../prisma/mysql/generated/client.ts'
import { need } from './peer.ts'

export const prismaClient = () => new PrismaClient({ adapter: new PrismaMariaDb(need('DATABASE_URL')) })
