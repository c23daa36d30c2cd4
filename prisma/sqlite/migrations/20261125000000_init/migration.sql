-- test/db/migrations.test.ts compares the table with schema.prisma.
CREATE TABLE "Content" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "content" TEXT NOT NULL,
  "createdAt" DATETIME NOT NULL,
  "savedAt" DATETIME NOT NULL
);

CREATE INDEX "Content_createdAt_id_idx" ON "Content" ("createdAt", "id");
