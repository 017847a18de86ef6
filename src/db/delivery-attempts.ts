/** One try: what was sent, without secrets, and what came back. */
export type AttemptRow = {
  readonly at: Date
  readonly milliseconds: number
  /** Null when nothing came back. */
  readonly status: number | null
  readonly error: string | null
  readonly requestHeaders: Readonly<Record<string, string>>
  readonly responseHeaders: Readonly<Record<string, string>> | null
  readonly responseBody: string | null
}
