// The list of tasks. A new one is one line here.
import { typeError } from '../../errors.js'
import { copy, repetition } from './copies.js'
import { counting } from './counting.js'
import { needle, needles } from './needles.js'
import type { Task } from './task.js'
import { promptsTask, type SamplePrompt, textTask } from './texts.js'
import { threadBackward, threadForward, uuid } from './threads.js'
import { variables } from './variables.js'

const MADE = [needle, needles, variables, counting, uuid, threadForward, threadBackward, copy, repetition]

/** What a task may need beside its name. */
export interface TaskInputs {
  readonly text?: string | undefined
  readonly prompts?: readonly SamplePrompt[] | undefined
}

export const TASK_NAMES: readonly string[] = [...MADE.map(({ name }) => name), 'text', 'prompts']

export function taskOf(name: unknown, { prompts, text }: TaskInputs): Task {
  const made = MADE.find((task) => task.name === name)
  if (made) return made
  if (name === 'text') {
    if (typeof text !== 'string') throw typeError("a text, which the task 'text' reads,", 'text', text)
    return textTask(text)
  }
  if (name === 'prompts') {
    if (!prompts || prompts.length === 0) throw typeError("prompts for the task 'prompts'", 'prompts', prompts)
    return promptsTask(prompts)
  }
  throw typeError(`one of ${TASK_NAMES.join(', ')}`, 'tasks', name)
}

export type { Grid, Place, Sample, Task } from './task.js'
export type { SamplePrompt } from './texts.js'
