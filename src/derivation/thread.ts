import { parentPort } from 'node:worker_threads'
import type { Answer } from '../async/worker-process.ts'
import { type MadePicture, makePicture, type PictureTask } from './pictures/tasks.ts'
import {
  type AnalysisRecord,
  type AnalysisTask,
  analyze,
  type Derivation,
  derive,
  type OpamFileKeys,
  type OpamFilesTask,
  readOpamFiles,
} from './tasks.ts'

// The module that a worker thread runs: one answer for each task.
parentPort?.on('message', (task: AnalysisTask | Derivation | OpamFilesTask | PictureTask) => {
  try {
    if (task.kind === 'analysis') {
      send({ isDone: true, result: analyze(task) })
    } else if (task.kind === 'opam-files') {
      send({ isDone: true, result: readOpamFiles(task) })
    } else if (task.kind === 'graph-picture' || task.kind === 'sizes-picture') {
      send({ isDone: true, result: makePicture(task) })
    } else {
      const result = derive(task)
      send({ isDone: true, result }, [result.buffer])
    }
  } catch (error) {
    send({ isDone: false, error: error instanceof Error ? error : new Error(String(error)) })
  }
})

function send(
  answer: Answer<AnalysisRecord | Uint8Array | readonly OpamFileKeys[] | MadePicture>,
  transfer: readonly ArrayBuffer[] = [],
): void {
  parentPort?.postMessage(answer, transfer)
}
