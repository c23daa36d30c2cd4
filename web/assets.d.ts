/** The URL that Vite gives a file. */
declare module '*.svg' {
  const url: string
  export default url
}
