import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  CONSTRAINT_CHARACTERS_MAX,
  MalformedConstraintError,
  parseVersionConstraint,
  satisfies,
} from '../../../src/unikernel/versions/constraint.ts'
import { compareOpamVersions } from '../../../src/unikernel/versions/opam.ts'

const VERSIONS = ['0.9', '1.0~rc1', '1.0', '1.2', '1.10', '2.0', '3']
const meant = (text: string) => {
  const constraint = parseVersionConstraint(text)
  return VERSIONS.filter((version) => satisfies(version, constraint, compareOpamVersions))
}

describe('a constraint', () => {
  it.each([
    ['= 1.0', ['1.0']],
    ['=1.0', ['1.0']],
    ['= "1.00"', ['1.0']],
    ['!= 1.0', ['0.9', '1.0~rc1', '1.2', '1.10', '2.0', '3']],
    ['< 1.0', ['0.9', '1.0~rc1']],
    ['<= 1.0', ['0.9', '1.0~rc1', '1.0']],
    ['> 1.2', ['1.10', '2.0', '3']],
    ['>= 1.2 & < 2', ['1.2', '1.10']],
    ['= 0.9 | > 2', ['0.9', '2.0', '3']],
    ['= 0.9 | > 1.2 & < 2', ['0.9', '1.10']],
    ['(= 0.9 | > 1.2) & < 2', ['0.9', '1.10']],
    ['!(>= 1.0 & < 2)', ['0.9', '1.0~rc1', '2.0', '3']],
    ['!!(= 3)', ['3']],
    ['\t>=  1.10 ', ['1.10', '2.0', '3']],
  ])('%s', (text, wanted) => {
    // 2.0 and 2 are not equal in opam: 2 is before 2.0.
    expect(meant(text)).toEqual(wanted)
  })

  it.each([
    ['', /at character 1, expected one of = != .*, found the end/],
    ['1.0', /at character 1, expected one of .*, found "1\.0"/],
    ['>=', /at character 3, expected a version, found the end/],
    ['>= >= 1', /at character 4, expected a version, found ">="/],
    ['>= 1 <', /at character 6, expected & or \|, found "<"/],
    ['(>= 1', /at character 6, expected & or \| or \), found the end/],
    ['>= 1)', /at character 5, expected & or \|, found "\)"/],
    ['>= 1 && < 2', /at character 7/],
    ['= ä', /expected a version, found "ä"/],
    ['= 1\n', /expected & or \|/],
    ['= "1', /expected a version/],
    [`${'('.repeat(30)}= 1${')'.repeat(30)}`, /nested deeper than 20/],
    [`${'!'.repeat(30)}= 1`, /nested deeper than 20/],
    [Array(17).fill('= 1').join(' | '), /there are more than 16 relations/],
    [`= ${'1'.repeat(CONSTRAINT_CHARACTERS_MAX)}`, /it is longer than 1000 characters/],
  ])('%.20j is refused with a position', (text, message) => {
    expect(() => parseVersionConstraint(text)).toThrow(MalformedConstraintError)
    expect(() => parseVersionConstraint(text)).toThrow(message)
  })

  it('of any text is parsed or refused', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[<>=!&|() 0-9.]{0,40}$/)), (text) => {
        try {
          satisfies('1', parseVersionConstraint(text), compareOpamVersions)
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedConstraintError)
        }
      }),
    )
  })
})
