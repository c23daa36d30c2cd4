/**
 * The metrics and labels that a PromQL expression names. Enough of the language for what is in deploy/; that it is PromQL at all is
 * for promtool to say.
 */

export interface Named {
  metric: string
  /** Labels that are asked of it in braces. */
  labels: string[]
}

const words = new Set(['and', 'or', 'unless', 'bool', 'offset', 'by', 'without', 'on', 'ignoring'])

export function metricsIn(expression: string): Named[] {
  const code = expression
    .replace(/"(\\.|[^"\\])*"/g, '""')
    .replace(/\[[^\]]*\]/g, '')
    .replace(/\b(by|without|on|ignoring)\s*\([^)]*\)/g, ' ')
  return [...code.matchAll(/(?<![\w:.$])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(?!\s*\(|[\w:])/g)]
    .filter(([, name]) => !words.has(name!))
    .map(([, metric, braces]) => ({
      metric: metric!,
      labels: [...(braces ?? '').matchAll(/(\w+)\s*(=~|!~|!=|=)/g)].map(([, label]) => label!),
    }))
}

/** Labels that a result is kept apart by. */
export function groupedBy(expression: string): string[] {
  return [...expression.matchAll(/\bby\s*\(([^)]*)\)/g)].flatMap(([, labels]) =>
    labels!.split(',').map((label) => label.trim()),
  )
}
