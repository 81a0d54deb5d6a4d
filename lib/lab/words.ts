// Plain words that tasks are made of. Every list is ours; no word is in two lists.

const list = (text: string): readonly string[] => Object.freeze(text.trim().split(/\s+/))

export const THINGS = list(`
  apple river stone candle window garden basket hammer violin ladder pocket mirror carpet kettle
  anchor barrel bottle bridge button camera castle cotton curtain engine feather fence flute forest
  glove guitar island jacket lantern letter marble meadow needle orange paper pencil pepper pillow
  planet ribbon saddle shadow silver spider spoon statue summer table thread tiger tunnel turtle valley
  wagon whistle winter yellow`)

export const PLACES = list(`
  Lisbon Oslo Cairo Lima Tokyo Vienna Dublin Nairobi Sydney Toronto Madrid Warsaw Delhi Havana Prague
  Seoul Athens Boston Geneva Hanoi Kyoto Milan Quito Rome`)

export const PEOPLE = list(`
  baker sailor teacher farmer doctor painter miller gardener captain tailor singer writer carpenter
  fisher hunter nurse pilot porter potter shepherd weaver`)

export const VERBS = list(`
  carried watched cleaned painted counted moved repaired lifted followed opened covered borrowed
  found kept measured noticed polished praised remembered returned`)

export const MANNERS = list(`
  quickly slowly quietly gladly carefully proudly calmly early late twice again often rarely neatly
  bravely kindly patiently softly`)

export const NAMES = list(`
  alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa
  quebec romeo sierra tango uniform victor whiskey xray yankee zulu`)
