/** `never` for a text that the compiler does not know in full: a text with a value of a request in it is refused. */
type Fixed<T extends string> = Record<never, never> extends Record<T, 1> ? never : T

/** A condition of a statement. `$` in its text becomes the parameter with its value. */
export type Condition = { readonly text: string; readonly value: unknown }

/** Returns the condition when its value is given, and nothing otherwise. */
export function given<const T extends string>(text: Fixed<T>, value: unknown): Condition[] {
  return value === undefined ? [] : [{ text, value }]
}

/**
 * Returns a statement with conditions in place of each `{name}`, and its values. A filter that is not given is not in
 * the text: with a plan for any value, Postgres would use no index for a filter that a parameter turns off.
 */
export function withConditions(
  text: string,
  values: readonly unknown[],
  conditions: Readonly<Record<string, readonly Condition[]>>,
): [text: string, values: unknown[]] {
  const all = [...values]
  const whole = text.replace(/\{(\w+)\}/g, (_marker, name: string) => {
    const some = conditions[name]
    if (some === undefined) throw new Error(`the statement has no conditions ${name}`)
    return some
      .map((condition) =>
        condition.text.replaceAll(/\$(?!\d)/g, () => `$${all.push(condition.value)}`),
      )
      .join('\n        ')
  })
  return [whole, all]
}
