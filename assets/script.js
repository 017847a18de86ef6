// Adds to pages what HTML alone does not do. Every page works without it.

const MINUTE = 60
const HOUR = 3600
const DAY = 86_400
const TIMES_SECONDS = 20
const LIVE_MILLISECONDS_MAX = 3_600_000

/** Shows how long ago the times of the page were. */
function showAges(root = document) {
  const ages = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })
  for (const time of root.querySelectorAll('time[datetime]')) {
    time.title ||= time.textContent
    const seconds = (new Date(time.dateTime) - Date.now()) / 1000
    const size = Math.abs(seconds)
    if (size < MINUTE) time.textContent = ages.format(Math.round(seconds), 'second')
    else if (size < HOUR) time.textContent = ages.format(Math.round(seconds / MINUTE), 'minute')
    else if (size < 2 * DAY) time.textContent = ages.format(Math.round(seconds / HOUR), 'hour')
    else if (size < 60 * DAY) time.textContent = ages.format(Math.round(seconds / DAY), 'day')
  }
}

/** Adds a field above each long table that filters its rows. */
function addFilters() {
  for (const table of document.querySelectorAll('table[data-filter]')) {
    const label = document.createElement('label')
    const field = document.createElement('input')
    label.className = 'filter'
    field.type = 'search'
    label.append('Filter the rows ', field)
    field.addEventListener('input', () => {
      const wanted = field.value.toLowerCase()
      for (const row of table.tBodies[0].rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted)
      }
    })
    table.parentElement.before(label)
  }
}

/** Keys: / goes to the search field, j and k to the next and the previous row. */
function addKeys() {
  document.addEventListener('keydown', (event) => {
    const { target, key } = event
    if (event.ctrlKey || event.metaKey || event.altKey) return
    if (/^(input|textarea|select)$/i.test(target.tagName)) return
    if (key === '/') {
      event.preventDefault()
      document.getElementById('q')?.focus()
    } else if (key === 'j' || key === 'k') {
      const links = [...document.querySelectorAll('main tbody th a')].filter((a) => a.offsetParent)
      const at = links.indexOf(document.activeElement)
      links[at + (key === 'j' ? 1 : -1)]?.focus()
    }
  })
}

/** Follows a deployment: an element with data-live has the URL of its event stream. Its content is loaded again on an event. */
function followChanges() {
  const live = document.querySelector('[data-live]')
  if (live === null || live.dataset.ended !== undefined) return
  const source = new EventSource(live.dataset.live)
  let loading = false
  let again = false
  async function load() {
    again = loading
    if (loading) return
    loading = true
    try {
      const answer = await fetch(location.href, { headers: { accept: 'text/html' } })
      const text = answer.ok ? await answer.text() : ''
      const fresh = new DOMParser().parseFromString(text, 'text/html').querySelector('[data-live]')
      if (fresh === null) return source.close()
      live.replaceChildren(...fresh.childNodes)
      showAges(live)
      if (fresh.dataset.ended !== undefined) source.close()
    } finally {
      loading = false
      if (again) load()
    }
  }
  source.addEventListener('deployment', load)
  setTimeout(() => source.close(), LIVE_MILLISECONDS_MAX)
}

showAges()
setInterval(showAges, TIMES_SECONDS * 1000)
addFilters()
addKeys()
followChanges()
