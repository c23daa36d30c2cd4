#!/usr/bin/env node
/** Spillway's generator for Prisma's command line: `provider = "spillway-tables"`. */
import '../dist/prisma/generator/main.js'
