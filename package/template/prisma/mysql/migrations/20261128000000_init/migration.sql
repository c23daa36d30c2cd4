-- From prisma/schema.prisma by `npm run migration`. You may edit this file until it has been applied anywhere.

CREATE TABLE `Comment` (
  `id` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  `postId` VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  `body` TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  `rating` INT NULL,
  `createdAt` DATETIME(3) NOT NULL,
  `savedAt` DATETIME(3) NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE INDEX `Comment_createdAt_id_idx` ON `Comment` (`createdAt`, `id`);
CREATE INDEX `Comment_postId_createdAt_id_idx` ON `Comment` (`postId`, `createdAt`, `id`);
