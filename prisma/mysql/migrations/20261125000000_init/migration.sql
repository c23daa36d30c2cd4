-- The character sets are named because the database's default may be latin1, and the collations because no two ids and no two
-- contents may be one. test/db/migrations.test.ts compares the table with schema.prisma.
CREATE TABLE `Content` (
  `id` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  `content` MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  `createdAt` DATETIME(3) NOT NULL,
  `savedAt` DATETIME(3) NOT NULL,
  PRIMARY KEY (`id`),
  INDEX `Content_createdAt_id_idx` (`createdAt`, `id`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
