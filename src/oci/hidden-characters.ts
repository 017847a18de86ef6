// Unicode, "Bidi_Control": Annex 9, section 2. They show text in another order than it is stored.
const DIRECTION_CONTROLS = '\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069'
// Format characters that have no width. The joiners U+200C and U+200D belong to the spelling of some languages.
const INVISIBLE =
  '\\u180e\\u200b\\u2060-\\u2065\\u206a-\\u206f\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}'

const DIRECTION_CONTROL = new RegExp(`[${DIRECTION_CONTROLS}]`, 'u')
const HIDDEN_CHARACTER = new RegExp(`[${DIRECTION_CONTROLS}${INVISIBLE}]`, 'u')
const HIDDEN_CHARACTERS = new RegExp(HIDDEN_CHARACTER, 'gu')
// Also the controls that JSON leaves as they are: C1, which some terminals obey, and the separators of lines.
const UNSAFE_IN_JSON = new RegExp(
  `[\\x7f-\\x9f\\u2028\\u2029${DIRECTION_CONTROLS}${INVISIBLE}]+`,
  'gu',
)

// Also the controls that HTML leaves as they are, except for the tab and the ends of lines.
const UNSAFE_IN_HTML = new RegExp(
  `[\\x01-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f${DIRECTION_CONTROLS}${INVISIBLE}]+`,
  'gu',
)

/** A character that is not plain ASCII. Most pages have none, and one pass shows that. */
const NOT_PLAIN = /[^\t\n\r\x20-\x7e]/

/**
 * Returns the problem of a text that would look different from what it is, such as `exe.lvh` for `hvl.exe`, to follow
 * the name of a field. Undefined for other text.
 */
export function findDirectionProblem(text: string): string | undefined {
  const found = DIRECTION_CONTROL.exec(text)?.[0]
  return found && `must not contain ${codePointOf(found)}, which changes the direction of text`
}

/** Does the same for a name, in which invisible characters are a problem, too: two names could look the same. */
export function findHiddenProblem(text: string): string | undefined {
  const found = HIDDEN_CHARACTER.exec(text)?.[0]
  return (
    findDirectionProblem(text) ??
    (found && `must not contain ${codePointOf(found)}, which is invisible`)
  )
}

/** Removes the characters from text that was stored before they were refused. */
export function withoutHiddenCharacters(text: string): string {
  return text.replace(HIDDEN_CHARACTERS, '')
}

/**
 * Formats JSON for people who read it in a terminal: characters that are hidden or control the terminal are escaped, which
 * does not change the value. Facts that are read from layers can contain every character.
 */
export function visibleJson(value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE_IN_JSON, escapedUnits)
}

/**
 * Makes hidden characters of a page visible, also for those who read it in a terminal: `exe.\\u202elvh` for `exe.hvl`. No markup
 * has such characters, so they are of texts and attributes.
 */
export function visibleHtml(html: string): string {
  return NOT_PLAIN.test(html) ? html.replace(UNSAFE_IN_HTML, escapedUnits) : html
}

const escapes = new Map<number, string>()

/** Escapes each UTF-16 unit. A text may have hundreds of thousands of them, so each escape is made once. */
function escapedUnits(run: string): string {
  let escaped = ''
  for (let index = 0; index < run.length; index += 1) {
    const unit = run.charCodeAt(index)
    escaped += escapes.get(unit) ?? newEscape(unit)
  }
  return escaped
}

function newEscape(unit: number): string {
  const escaped = `\\u${unit.toString(16).padStart(4, '0')}`
  escapes.set(unit, escaped)
  return escaped
}

function codePointOf(character: string): string {
  return `U+${character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}`
}
