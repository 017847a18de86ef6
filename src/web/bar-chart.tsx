const WIDTH = 320
const HEIGHT = 64
const GAP = 2
/** Fewer bars leave room at the right. */
const BARS_MIN = 12

/** One bar: its title says what it is, for a pointer and for a reader of the screen. */
export type Bar = {
  readonly key: string
  readonly value: number
  readonly title: string
  readonly isBad: boolean
}

/** A small picture of values, from the left to the right. The table beside it has the same values. */
export function BarChart({ name, bars }: { name: string; bars: readonly Bar[] }) {
  const largest = Math.max(1, ...bars.map(({ value }) => value))
  const step = WIDTH / Math.max(bars.length, BARS_MIN)
  return (
    <figure class="chart">
      <figcaption>{name}</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={name}>
        {bars.map(({ key, value, title, isBad }, index) => {
          const height = Math.max(1, (value / largest) * HEIGHT)
          return (
            <rect
              key={key}
              class={isBad ? 'bar failed' : 'bar'}
              x={round(index * step)}
              y={round(HEIGHT - height)}
              width={round(step - GAP)}
              height={round(height)}
            >
              <title>{title}</title>
            </rect>
          )
        })}
      </svg>
    </figure>
  )
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
