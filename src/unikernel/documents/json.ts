/** A JSON value, without undefined. */
export type Json = string | number | boolean | readonly Json[] | JsonObject
export type JsonObject = { readonly [name: string]: Json }

/** Returns the fields that have a value; empty lists are left out. */
export function withoutUndefined(fields: {
  readonly [name: string]: Json | undefined
}): JsonObject {
  const kept: [string, Json][] = []
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || (Array.isArray(value) && value.length === 0)) continue
    kept.push([name, value])
  }
  return Object.fromEntries(kept)
}
