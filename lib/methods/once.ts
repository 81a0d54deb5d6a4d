// What is read at most once.

export function once<T>(read: () => T): () => T {
  let held: { value: T } | undefined
  return () => {
    held ??= { value: read() }
    return held.value
  }
}
