/** What a program runs, and the models that it runs with. */
export { loadModels } from './project.ts'
export { run } from './run.ts'
