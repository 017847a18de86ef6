import {
  ActionButton,
  DataTable,
  Empty,
  Facts,
  Heading,
  Lines,
  Section,
  Time,
} from './elements.tsx'
import { deliveryPath, webhookPath } from './paths.ts'
import type { DeliveryItem } from './webhook.tsx'
import { answerText, DeliveryStateWord, Subject } from './webhook-words.tsx'

/** One request, and its response. */
export type AttemptItem = {
  readonly at: string
  readonly milliseconds: number
  readonly status: number | null
  readonly error: string | null
  readonly response: { readonly body: string } | null
  /** True when the receiver is internal: only administrators read its response. */
  readonly hidden: boolean
}

export type DeliveryView = DeliveryItem & {
  /** Newest first. */
  readonly attemptLog: readonly AttemptItem[]
  /** The event as JSON. */
  readonly body: string
}

/** Attempts that the page shows: the newest ones. */
const ATTEMPTS_SHOWN_MAX = 25
/** Characters of a body that the page shows. */
const BODY_SHOWN_MAX = 3_000

/** The page of a delivery: when it was tried, what the receiver answered, and how to send it again. */
export function DeliveryPage({ webhook, delivery }: { webhook: string; delivery: DeliveryView }) {
  const { event, type, state, subject, time, attempts, dueAt, finishedAt, attemptLog } = delivery
  const shown = attemptLog.slice(0, ATTEMPTS_SHOWN_MAX)
  return (
    <>
      <Heading
        trail={[
          { href: '/webhooks', name: 'Webhooks' },
          { href: webhookPath(webhook), name: webhook },
        ]}
      >
        {type}
      </Heading>
      <p>
        <DeliveryStateWord state={state} />
        {dueAt === null ? null : (
          <>
            {' '}
            · due: <Time at={dueAt} />
          </>
        )}
      </p>
      <div class="actions">
        <ActionButton
          action={`${deliveryPath(webhook, event)}/redeliver`}
          name="Send again"
          label={`Send again: ${type} of ${subject}`}
        />
      </div>
      <Facts
        facts={[
          ['About', <Subject subject={subject} />],
          ['Time of the event', <Time at={time} />],
          ['Event', <code>{event}</code>],
          ['Ended', finishedAt === null ? null : <Time at={finishedAt} />],
        ]}
      />
      <Section
        id="attempts"
        title="Attempts"
        note={
          attempts > shown.length ? `The newest ${shown.length} of ${attempts}.` : 'Newest first.'
        }
      >
        {shown.length === 0 ? (
          <Empty>No attempt yet.</Empty>
        ) : (
          <DataTable
            caption="Attempts, newest first"
            columns={['Time', 'Answer', { name: 'Duration', kind: 'number' }]}
            rows={shown.map((one) => ({
              key: one.at,
              cells: [
                <Time at={one.at} />,
                answerText(one.status, one.error) ?? 'no answer',
                `${one.milliseconds} ms`,
              ],
            }))}
          />
        )}
        <LastResponse attempt={shown[0]} />
      </Section>
      <Section id="body" title="Event">
        <Lines label="The event as JSON">{shownText(indented(delivery.body))}</Lines>
      </Section>
    </>
  )
}

function LastResponse({ attempt }: { attempt: AttemptItem | undefined }) {
  if (attempt === undefined) return null
  if (attempt.hidden) {
    return (
      <p class="note">The receiver is in an internal network: administrators read its response.</p>
    )
  }
  const body = attempt.response?.body ?? ''
  if (body === '') return null
  return <Lines label="The body of the last response">{shownText(body)}</Lines>
}

/** Returns a JSON text with one field a line. */
function indented(json: string): string {
  return JSON.stringify(JSON.parse(json), null, 2)
}

function shownText(text: string): string {
  if (text.length <= BODY_SHOWN_MAX) return text
  return `${text.slice(0, BODY_SHOWN_MAX)}\n… ${text.length - BODY_SHOWN_MAX} more characters`
}
