// What is read at most once.

export function once<T>(read: () => T): () => T {
  let held: { value: T } | undefined
  return () => {
    held ??= { value: read() }
    return held.value
  }
}

/** The same for each head. */
export function onceEach<T>(read: (head: number) => T): (head: number) => T {
  const held = new Map<number, T>()
  return (head) => {
    if (!held.has(head)) held.set(head, read(head))
    return held.get(head) as T
  }
}
