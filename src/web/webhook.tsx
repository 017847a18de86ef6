import type { ComponentChildren } from 'preact'
import {
  ActionButton,
  DataTable,
  Empty,
  Facts,
  Heading,
  NextPage,
  Section,
  Time,
} from './elements.tsx'
import { FilterLinks } from './filter-links.tsx'
import { deliveryPath, webhookPath } from './paths.ts'
import { counted, firstOf } from './texts.ts'
import {
  answerText,
  DeliveryStateWord,
  Subject,
  type WebhookHealthView,
  WebhookStateWord,
  waitingText,
} from './webhook-words.tsx'

export type WebhookView = WebhookHealthView & {
  readonly name: string
  readonly url: string
  readonly repositories: readonly string[]
  readonly tags: readonly string[] | null
  readonly types: readonly string[]
  readonly format: string
  readonly body: unknown
  readonly headers: Readonly<Record<string, string>>
  readonly description: string | null
  readonly owner: string
  readonly createdAt: string
  readonly updatedAt: string
}

/** A delivery of an event to the webhook. */
export type DeliveryItem = {
  /** The id of the event. */
  readonly event: string
  readonly type: string
  readonly subject: string
  readonly time: string
  readonly state: string
  readonly attempts: number
  readonly status: number | null
  readonly error: string | null
  readonly dueAt: string | null
  readonly finishedAt: string | null
}

/** The events of a range that a form made due again. */
export type Redelivered = {
  readonly deliveries: number
  /** The fields of the form that continues; undefined at the end of the range. */
  readonly continuation: Readonly<Record<string, string>> | undefined
}

/** The page of a webhook: whether it delivers, why not, and its deliveries. */
export function WebhookPage({
  webhook,
  mayChange,
  deliveries,
  states,
  state,
  redelivered,
  next,
}: {
  webhook: WebhookView
  /** True when the caller may pause the webhook. */
  mayChange: boolean
  /** Newest first. */
  deliveries: readonly DeliveryItem[]
  /** All states of deliveries. */
  states: readonly string[]
  /** The state that the listed deliveries have; undefined: any. */
  state: string | undefined
  redelivered: Redelivered | undefined
  next: string | undefined
}) {
  const { name } = webhook
  const path = webhookPath(name)
  return (
    <>
      <Heading trail={[{ href: '/webhooks', name: 'Webhooks' }]} note={webhook.description}>
        {name}
      </Heading>
      <p>
        <WebhookStateWord webhook={webhook} /> · {healthText(webhook)}
      </p>
      {webhook.authentication.readable ? null : (
        <p class="error">
          Its secrets were encrypted with another master key. It works again after{' '}
          <code>rookery webhook rotate-secret {name}</code>.
        </p>
      )}
      <div class="actions">
        {mayChange && webhook.state !== 'paused' ? (
          <ActionButton action={`${path}/pause`} name="Pause" label={`Pause ${name}`} />
        ) : null}
        {mayChange && webhook.state !== 'active' ? (
          <ActionButton action={`${path}/resume`} name="Resume" label={`Resume ${name}`} />
        ) : null}
        {mayTest(webhook) ? (
          <ActionButton
            action={`${path}/test`}
            name="Send a ping"
            label={`Send a ping to ${name}`}
          />
        ) : null}
      </div>
      <Facts facts={factsOf(webhook)} />
      <p class="note">Sends {webhook.types.join(', ')}.</p>
      <Section
        id="deliveries"
        title="Deliveries"
        note="Newest first. A delivery has the id of its event."
      >
        <FilterLinks label="State" path={path} parameter="state" values={states} chosen={state} />
        {deliveries.length === 0 ? (
          <Empty>
            {state === undefined && next === undefined
              ? 'Nothing was sent yet. An event that the webhook selects makes a delivery.'
              : 'No delivery on this page is in this state.'}
          </Empty>
        ) : (
          <DataTable
            caption="Deliveries, newest first"
            filter
            columns={[
              'Event',
              'State',
              'About',
              'Time',
              { name: 'Attempts', kind: 'number' },
              'Last answer',
            ]}
            rows={deliveries.map((one) => ({ key: one.event, cells: cellsOf(name, one) }))}
          />
        )}
        <NextPage href={next} name="Earlier deliveries" />
      </Section>
      <Section
        id="again"
        title="Send events again"
        note="The events of a time that the webhook selects now, with the ids that they had. Times are in UTC."
      >
        {redelivered === undefined ? null : <Outcome path={path} redelivered={redelivered} />}
        <RangeForm path={path} states={states} />
      </Section>
    </>
  )
}

function healthText({ state, disabledReason, health }: WebhookView): ComponentChildren {
  const { failures, failingSince, retryingAt, waiting } = health
  if (state === 'disabled') return disabledReason ?? 'nothing is sent until it is resumed'
  if (state === 'paused')
    return `nothing is sent until it is resumed; ${waitingText(waiting)} waiting`
  const waits = `${waitingText(waiting)} waiting`
  if (failures === 0 || failingSince === null) return waits
  return (
    <>
      {counted(failures, 'failure')} since <Time at={failingSince} />; {waits}
      {retryingAt === null ? null : (
        <>
          ; next attempt: <Time at={retryingAt} />
        </>
      )}
    </>
  )
}

/** A receiver with a body of its own would act on a test, and CDEvents has none. */
function mayTest({ state, body, format }: WebhookView): boolean {
  return state === 'active' && body === null && !format.startsWith('cdevents')
}

/** Patterns of repositories and tags that the page shows. */
const PATTERNS_SHOWN_MAX = 10

function factsOf(webhook: WebhookView): (readonly [string, ComponentChildren])[] {
  const { url, repositories, tags, format, body, headers, owner, health } = webhook
  return [
    ['Receiver', <code>{url}</code>],
    ['Repositories', firstOf(repositories, PATTERNS_SHOWN_MAX)],
    ['Tags', tags === null ? 'all' : firstOf(tags, PATTERNS_SHOWN_MAX)],
    ['Format', body === null ? format : 'a body of its own'],
    ['Further headers', Object.keys(headers).join(', ')],
    ['Last delivered', health.succeededAt === null ? 'never' : <Time at={health.succeededAt} />],
    ['Last failure', health.failedAt === null ? 'never' : <Time at={health.failedAt} />],
    ['Owner', owner],
    ['Made', <Time at={webhook.createdAt} />],
    ['Changed', <Time at={webhook.updatedAt} />],
  ]
}

function cellsOf(name: string, delivery: DeliveryItem) {
  const { event, type, state, subject, time, attempts, status, error, dueAt } = delivery
  return [
    <a href={deliveryPath(name, event)} class="unbroken">
      {type}
    </a>,
    <DeliveryStateWord state={state} />,
    <Subject subject={subject} />,
    <Time at={time} />,
    attempts,
    <>
      {answerText(status, error) ?? <span class="faint">none</span>}
      {dueAt === null || attempts === 0 ? null : (
        <div class="faint">
          due: <Time at={dueAt} />
        </div>
      )}
    </>,
  ]
}

function Outcome({ path, redelivered }: { path: string; redelivered: Redelivered }) {
  const { deliveries, continuation } = redelivered
  return (
    <div class="done" role="status">
      <p>{counted(deliveries, 'event')} will be sent again.</p>
      {continuation === undefined ? null : (
        <>
          <p>The time has more events than are handled at once.</p>
          <ActionButton
            action={`${path}/redeliver`}
            name="Continue"
            label="Continue to send events again"
            fields={continuation}
          />
        </>
      )}
    </div>
  )
}

function RangeForm({ path, states }: { path: string; states: readonly string[] }) {
  return (
    <form class="fields" action={`${path}/redeliver`} method="post">
      <label>
        From
        <input name="after" type="datetime-local" required />
      </label>
      <label>
        Until; empty: the present
        <input name="until" type="datetime-local" />
      </label>
      <label>
        Deliveries
        <select name="states">
          <option value="failed,expired,refused">that failed, expired or were refused</option>
          {states.map((one) => (
            <option key={one} value={one}>
              {one}
            </option>
          ))}
          <option value="">all, also of events that had none</option>
        </select>
      </label>
      <div>
        <button type="submit">Send again</button>
      </div>
    </form>
  )
}
