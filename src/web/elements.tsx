import type { ComponentChildren } from 'preact'
import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import { imagePath, tagPath } from './paths.ts'
import { bytesText, isoTimeText, shortDigest } from './texts.ts'

/** A section of a page with a heading, which links can name. */
export function Section({
  id,
  title,
  note,
  children,
}: {
  id: string
  title: string
  note?: ComponentChildren
  children: ComponentChildren
}) {
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {note === undefined ? null : <p class="note">{note}</p>}
      {children}
    </section>
  )
}

/** The heading of a page, with the path to it. */
export function Heading({
  trail = [],
  note,
  children,
}: {
  /** The pages above this one. */
  trail?: readonly { readonly href: string; readonly name: string }[]
  note?: ComponentChildren
  children: ComponentChildren
}) {
  return (
    <>
      {trail.length === 0 ? null : (
        <nav aria-label="Path" class="trail">
          <ol>
            {trail.map(({ href, name }) => (
              <li key={href}>
                <a href={href}>{name}</a>
              </li>
            ))}
          </ol>
        </nav>
      )}
      <h1>{children}</h1>
      {note === undefined ? null : <p class="lead">{note}</p>}
    </>
  )
}

/** A column of a table: its heading, and `number` for figures, which are aligned right. */
export type Column = string | { readonly name: string; readonly kind: 'number' }

/** A table in a box that scrolls, also by keys. The first cell of a row is its heading. */
export function DataTable({
  caption,
  columns,
  rows,
  filter = false,
}: {
  caption: string
  columns: readonly Column[]
  rows: readonly { readonly key: string; readonly cells: readonly ComponentChildren[] }[]
  /** True: the script adds a field that filters the rows. */
  filter?: boolean
}) {
  const kinds = columns.map((column) => (typeof column === 'string' ? undefined : column.kind))
  return (
    <div class="table" tabindex={0}>
      <table data-filter={filter ? '' : undefined}>
        <caption>{caption}</caption>
        <thead>
          <tr>
            {columns.map((column, index) => {
              const name = typeof column === 'string' ? column : column.name
              return (
                <th key={name} scope="col" class={kinds[index]}>
                  {name}
                </th>
              )
            })}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ key, cells }) => (
            <tr key={key}>
              {cells.map((cell, index) =>
                index === 0 ? (
                  <th key={index} scope="row">
                    {cell}
                  </th>
                ) : (
                  <td key={index} class={kinds[index]}>
                    {cell}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

/** Facts as pairs of a name and a value. Pairs without a value are left out. */
export function Facts({
  facts,
}: {
  facts: readonly (readonly [name: string, value: ComponentChildren])[]
}) {
  const given = facts.filter(([, value]) => value !== undefined && value !== null && value !== '')
  return (
    <dl class="facts">
      {given.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  )
}

/** A time, in UTC. The script adds how long ago that was. */
export function Time({ at }: { at: Date | string }) {
  const iso = new Date(at).toISOString()
  return <time dateTime={iso}>{isoTimeText(iso)}</time>
}

/** A size in a unit that people read; the exact count of bytes is in the title. */
export function Bytes({ count }: { count: number }) {
  return <span title={`${count} bytes`}>{bytesText(count)}</span>
}

/** A digest, shortened, with the whole one as its title. */
export function ShortDigest({ digest }: { digest: string }) {
  return (
    <code class="digest" title={digest}>
      {shortDigest(digest)}
    </code>
  )
}

/** A link to the page of an image. */
export function ImageLink({ repository, digest }: { repository: Repository; digest: Digest }) {
  return (
    <a href={imagePath(repository, digest)}>
      <code>{shortDigest(digest)}</code>
    </a>
  )
}

/** Links to the pages of tags, or words in place of them. */
export function TagLinks({
  repository,
  tags,
  none = 'no tag',
}: {
  repository: Repository
  tags: readonly Tag[]
  none?: string
}) {
  if (tags.length === 0) return <span class="faint">{none}</span>
  const shown = tags.slice(0, TAGS_SHOWN_MAX)
  return (
    <>
      {shown.map((tag, index) => (
        <>
          {index === 0 ? '' : ', '}
          <a href={tagPath(repository, tag)}>{tag}</a>
        </>
      ))}
      {tags.length > shown.length ? ` and ${tags.length - shown.length} more` : ''}
    </>
  )
}

/** Tags of an image that a row of a list shows. */
const TAGS_SHOWN_MAX = 5

/** How good a state is. Each has a sign of its own, so that nobody needs the colour. */
export type Mood = 'good' | 'bad' | 'busy' | 'idle'

const SIGNS: Readonly<Record<Mood, string>> = { good: '✓', bad: '✗', busy: '…', idle: '○' }

/** A state as a sign and a word. */
export function State({ mood, children }: { mood: Mood; children: string }) {
  return (
    <span class={`state ${mood}`}>
      <span aria-hidden="true">{SIGNS[mood]}</span> {children}
    </span>
  )
}

/** Commands or other text that a reader copies. */
export function Lines({ label, children }: { label: string; children: string }) {
  return (
    <figure class="lines">
      <figcaption>{label}</figcaption>
      <pre tabindex={0}>
        <code>{children}</code>
      </pre>
    </figure>
  )
}

/** The text in the place of an empty list: which items it will have, and how to make the first one. */
export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>
}

/** A link to the next page of a list. */
export function NextPage({
  href,
  name = 'Next page',
}: {
  href: string | undefined
  name?: string
}) {
  if (href === undefined) return null
  return (
    <nav class="pages" aria-label="Pages of the list">
      <a rel="next" href={href}>
        {name}
      </a>
    </nav>
  )
}

/** A form with one button, for an effect that needs no further input. */
export function ActionButton({
  action,
  name,
  fields = {},
  kind = 'plain',
  label,
}: {
  action: string
  name: string
  fields?: Readonly<Record<string, string>>
  kind?: 'plain' | 'danger'
  /** Says what the button acts on, for a reader of the screen that reads the button alone. */
  label?: string
}) {
  return (
    <form class="action" action={action} method="post">
      {Object.entries(fields).map(([field, value]) => (
        <input key={field} type="hidden" name={field} value={value} />
      ))}
      <button type="submit" class={kind} aria-label={label}>
        {name}
      </button>
    </form>
  )
}
