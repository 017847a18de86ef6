import { Heading } from './elements.tsx'

/** The page in the place of one that cannot be shown. */
export function ErrorPage({
  status,
  message,
  request,
  advice,
}: {
  status: number
  message: string
  request: string
  advice?: string | undefined
}) {
  return (
    <>
      <Heading>{headingOf(status)}</Heading>
      <p class="error">{message}</p>
      {advice === undefined ? null : <p>{advice}</p>}
      <p class="faint">
        Status {status}, request <code>{request}</code>
      </p>
      <p>
        <a href="/">Go to the start page</a>
      </p>
    </>
  )
}

/** Returns the heading of a page for an error. */
export function headingOf(status: number): string {
  if (status === 404) return 'Not found'
  if (status === 403 || status === 401) return 'Not permitted'
  if (status === 429) return 'Too many requests'
  return status >= 500 ? 'The registry cannot answer' : 'This request is not right'
}
