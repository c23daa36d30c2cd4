# Both roles in one image: the API by default, a worker with `node worker/main.ts` for a command (docker-compose.yml has both).
FROM node:24-slim AS build
WORKDIR /app
# What `npm ci` reads, the Prisma clients and the console, then the bundle of the sources. What builds them is optional, and so is a Node
# beside this one: both go.
COPY package.json package-lock.json .npmrc tsconfig.json node-version.mjs ./
COPY prisma ./prisma
COPY client ./client
COPY web ./web
RUN npm ci --ignore-scripts && npm run generate && npm run web
COPY src ./src
COPY worker ./worker
RUN npm run bundle && npm prune --omit=optional --no-save

# With Prisma's command line, for the compose profile `studio`.
FROM build AS studio
RUN npm install --no-save --ignore-scripts --omit=optional prisma@7.10.0
USER node

FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /app
# All of it is root's, and the server cannot change it. data/ is for the embedded store and queue: `-v spillway-data:/app/data`.
RUN install -d -o node -g node data
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/prisma ./prisma
COPY --from=build /app/web/dist ./web/dist
COPY --from=build /app/.bundle ./.bundle
# From there, too, since the bundle is of these files with these times.
COPY --from=build /app/package.json ./
COPY --from=build /app/package-lock.json ./
COPY --from=build /app/src ./src
COPY --from=build /app/worker ./worker
COPY LICENSE ./
USER node
# It listens on the container's own loopback until HOST and AUTH say otherwise: nobody gets in by accident.
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 8080}/livez`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "--disable-warning=ExperimentalWarning", "src/main.ts"]
