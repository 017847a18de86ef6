/** Links that choose one value of a parameter of a list, or any. */
export function FilterLinks({
  label,
  path,
  parameter,
  values,
  chosen,
  any = 'all',
}: {
  label: string
  path: string
  parameter: string
  values: readonly string[]
  chosen: string | undefined
  /** The text of the link to the list without the parameter. */
  any?: string
}) {
  const links = [undefined, ...values]
  return (
    <nav class="filters" aria-label={label}>
      <ul>
        {links.map((value) => (
          <li key={value ?? ''}>
            <a
              href={value === undefined ? path : `${path}?${parameter}=${value}`}
              class={value === chosen ? 'chosen' : undefined}
              aria-current={value === chosen ? 'true' : undefined}
            >
              {value ?? any}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  )
}
