// Unicode, "Bidi_Control": Annex 9, section 2. They show text in another order than it is stored.
const DIRECTION_CONTROL = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/
const DIRECTION_CONTROLS = new RegExp(DIRECTION_CONTROL, 'g')

/** The rule for text that one client stores and others read, to follow the name of a field. */
export const DIRECTION_RULE = 'must not contain a character that changes the direction of text'

/** True for text that would look different from what it is: `exe.lvh` for `hvl.exe`. */
export function hasDirectionControl(text: string): boolean {
  return DIRECTION_CONTROL.test(text)
}

/** Removes the characters from text that was stored before they were refused. */
export function withoutDirectionControls(text: string): string {
  return text.replace(DIRECTION_CONTROLS, '')
}
