// Just enough of both languages to ask a source file what it includes and how long its functions are.
import ts from 'typescript'

export interface FunctionSize {
  title: string
  line: number
  lines: number
}

export function includes(source: string): { path: string; system: boolean }[] {
  return [...source.matchAll(/^\s*#\s*include\s*([<"])([^>"]+)[>"]/gm)].map(([, open, path]) => ({
    path: path ?? '',
    system: open === '<',
  }))
}

export function tsImports(name: string, source: string): { path: string; typeOnly: boolean }[] {
  const found: { path: string; typeOnly: boolean }[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      found.push({ path: node.moduleSpecifier.text, typeOnly: node.importClause?.isTypeOnly ?? false })
    } else if (ts.isExportDeclaration(node) && node.moduleSpecifier && ts.isStringLiteral(node.moduleSpecifier)) {
      found.push({ path: node.moduleSpecifier.text, typeOnly: node.isTypeOnly })
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [argument] = node.arguments
      if (argument && ts.isStringLiteral(argument)) found.push({ path: argument.text, typeOnly: false })
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(name, source, ts.ScriptTarget.Latest))
  return found
}

export function tsFunctions(name: string, source: string): FunctionSize[] {
  const file = ts.createSourceFile(name, source, ts.ScriptTarget.Latest, true)
  const found: FunctionSize[] = []
  const lineOf = (position: number) => file.getLineAndCharacterOfPosition(position).line
  const visit = (node: ts.Node): void => {
    if (ts.isFunctionLike(node) && 'body' in node && node.body) {
      const start = lineOf(node.getStart(file))
      found.push({ title: functionTitle(node, file), line: start + 1, lines: lineOf(node.end) - start + 1 })
    }
    ts.forEachChild(node, visit)
  }
  visit(file)
  return found
}

function functionTitle(node: ts.SignatureDeclaration, file: ts.SourceFile): string {
  const named = node.name ?? (ts.isVariableDeclaration(node.parent) ? node.parent.name : undefined)
  return named?.getText(file) ?? 'a function without a name'
}

// Comments, strings and preprocessor lines become blanks; line breaks stay.
function bare(source: string): string {
  const pattern =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|R"(\w*)\([\s\S]*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'|^[ \t]*#(?:[^\n\\]|\\\n|\\)*/gm
  return source.replace(pattern, (match) => match.replace(/[^\n]/g, match[0] === '"' ? '"' : ' '))
}

type Scope = 'namespace' | 'type' | 'function' | 'block'

function scopeOf(text: string, outer: Scope | undefined): Scope {
  const head = text.replace(/\balignas\s*\([^)]*\)/g, '')
  if (outer === 'function' || outer === 'block') return 'block'
  if (/\bnamespace\b|\bextern\s*"/.test(head)) return 'namespace'
  if (/\b(class|struct|union|enum)\b[^()=]*$/.test(head) && !/\)\s*(const|noexcept)?\s*$/.test(head)) return 'type'
  return head.includes('(') ? 'function' : 'block'
}

export function cppFunctions(source: string): FunctionSize[] {
  const code = bare(source)
  const open: { scope: Scope; title: string; line: number }[] = []
  const found: FunctionSize[] = []
  let head = ''
  let headLine = 1
  let line = 1
  for (const letter of code) {
    if (letter === '{') {
      const title = /([\w~:]+)\s*\(/.exec(head)?.[1] ?? ''
      open.push({ scope: scopeOf(head, open.at(-1)?.scope), title, line: headLine })
      head = ''
    } else if (letter === '}') {
      const closed = open.pop()
      if (closed?.scope === 'function')
        found.push({ title: closed.title, line: closed.line, lines: line - closed.line + 1 })
      head = ''
    } else if (letter === ';') {
      head = ''
    } else {
      if (head.trim() === '') headLine = line
      head += letter
    }
    if (letter === '\n') line++
  }
  return found
}
