-- From prisma/schema.prisma by `npm run migration`. You may edit this file until it has been applied anywhere.

CREATE TABLE "Comment" (
  "id" TEXT NOT NULL,
  "postId" TEXT NOT NULL,
  "body" TEXT NOT NULL,
  "rating" INTEGER NULL,
  "createdAt" DATETIME NOT NULL,
  "savedAt" DATETIME NOT NULL,
  PRIMARY KEY ("id")
);
CREATE INDEX "Comment_createdAt_id_idx" ON "Comment" ("createdAt", "id");
CREATE INDEX "Comment_postId_createdAt_id_idx" ON "Comment" ("postId", "createdAt", "id");
