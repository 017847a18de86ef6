#!/usr/bin/env node
// Adds up the JSON reports of the test runner: count-tests.mjs [--no-skips] REPORT...
// A missing, unreadable or empty report and a file that could not be loaded count as failed. Each failure
// and its reason are printed on standard error again: the runner's own output is far above by then.
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

/** @returns {{ passed: number, failed: number, skipped: number }} */
export function countReport(text, { skipsFail = false } = {}) {
  let report
  try {
    report = JSON.parse(text)
  } catch {
    return { passed: 0, failed: 1, skipped: 0 }
  }
  if (typeof report !== 'object' || report === null) return { passed: 0, failed: 1, skipped: 0 }
  const passed = report.numPassedTests ?? 0
  const skipped = (report.numPendingTests ?? 0) + (report.numTodoTests ?? 0)
  // A suite that failed without a failed test was not even loaded.
  const unloaded = (report.testResults ?? []).filter(
    (file) =>
      file.status === 'failed' &&
      !(file.assertionResults ?? []).some((test) => test.status === 'failed'),
  ).length
  let failed = (report.numFailedTests ?? 0) + unloaded
  if (skipsFail) failed += skipped
  if (passed + failed === 0) failed = 1
  return { passed, failed, skipped: skipsFail ? 0 : skipped }
}

const REASON_LINES_MAX = 12

/** @returns {string[]} the failures of a report, each with the beginning of its reason */
export function failuresOf(text) {
  let files
  try {
    files = JSON.parse(text).testResults
  } catch {
    files = undefined
  }
  if (!Array.isArray(files)) return []
  return files
    .filter((file) => file.status === 'failed')
    .flatMap((file) => {
      const tests = (file.assertionResults ?? []).filter((test) => test.status === 'failed')
      if (tests.length === 0) return [describe(`${file.name}: could not be loaded`, [file.message])]
      return tests.map((test) => describe(`${file.name}: ${test.fullName}`, test.failureMessages))
    })
}

function describe(failure, reasons) {
  const lines = (reasons ?? []).join('\n').split('\n').slice(0, REASON_LINES_MAX)
  return `failed: ${failure}\n${lines.map((line) => `    ${line}\n`).join('')}`
}

function main(args) {
  const skipsFail = args[0] === '--no-skips'
  const total = { passed: 0, failed: 0, skipped: 0 }
  for (const path of skipsFail ? args.slice(1) : args) {
    let text = ''
    try {
      text = readFileSync(path, 'utf8')
    } catch {
      process.stderr.write(`no report at ${path}\n`)
    }
    for (const failure of failuresOf(text)) process.stderr.write(failure)
    const counts = countReport(text, { skipsFail })
    for (const key of Object.keys(total)) total[key] += counts[key]
  }
  process.stdout.write(`${total.passed} ${total.failed} ${total.skipped}\n`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main(process.argv.slice(2))
