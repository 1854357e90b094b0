import type { ASTNode } from '@marcbachmann/cel-js';
import { serialize } from '@marcbachmann/cel-js/serialize';

/** Functions of the engine that Kubernetes has otherwise, and what stands for them; see environment.ts. */
const renamed: ReadonlyMap<string, string> = new Map([
  ['matches', 're2Matches'],
  ['lowerAscii', 'asciiLower'],
  ['upperAscii', 'asciiUpper'],
]);

const loops: ReadonlySet<string> = new Set(['all', 'exists', 'exists_one', 'map', 'filter']);

/**
 * The text of an expression with other names for some functions, and with `has(m["d"].x)`, which the engine takes of
 * plain identifiers only, as `"x" in m["d"]`: of maps, and all that selectors look into are maps, both say the same.
 * Brackets stand around everything, so that nothing hangs on precedence.
 */
export function rewritten(node: ASTNode): string {
  switch (node.op) {
    case 'value':
      return serialize(node);
    case 'id':
      return node.args;
    case '.':
    case '.?':
      return `${rewritten(node.args[0])}${node.op}${node.args[1]}`;
    case '[]':
      return `${rewritten(node.args[0])}[${rewritten(node.args[1])}]`;
    case '[?]':
      return `${rewritten(node.args[0])}[?${rewritten(node.args[1])}]`;
    case 'call':
      return rewrittenCall(node.args[0], node.args[1]);
    case 'rcall': {
      const [name, receiver, args] = node.args;
      return `${rewritten(receiver)}.${renamed.get(name) ?? name}(${args.map(rewritten).join(', ')})`;
    }
    case 'list':
      return `[${node.args.map(rewritten).join(', ')}]`;
    case 'map':
      return `{${node.args.map(pair => pair.map(rewritten).join(': ')).join(', ')}}`;
    case '!_':
      return `(!${rewritten(node.args)})`;
    case '-_':
      return `(-${rewritten(node.args)})`;
    case '?:': {
      const [condition, then, otherwise] = node.args.map(rewritten);
      return `(${condition} ? ${then} : ${otherwise})`;
    }
    case 'in':
      return `within(${node.args.map(rewritten).join(', ')})`;
    default:
      return `(${node.args.map(rewritten).join(` ${node.op} `)})`;
  }
}

function rewrittenCall(name: string, args: readonly ASTNode[]): string {
  const [first, second] = args;
  if (name === 'has' && first?.op === '.')
    return `within(${JSON.stringify(first.args[1])}, ${rewritten(first.args[0])})`;
  if (name === 'matches' && first !== undefined && second !== undefined)
    return `${rewritten(first)}.${renamed.get(name)}(${rewritten(second)})`;
  return `${name}(${args.map(rewritten).join(', ')})`;
}

/** How deep loops stand in one another. */
export function loopDepth(node: ASTNode): number {
  const below = childrenOf(node).reduce((most, child) => Math.max(most, loopDepth(child)), 0);
  return node.op === 'rcall' && loops.has(node.args[0]) ? below + 1 : below;
}

export interface MentionedAttribute {
  readonly domain: string;
  readonly id: string;
}

/** Attributes that an expression names as `device.attributes["domain"].id`, in whatever form of access. */
export function mentionedIn(node: ASTNode): readonly MentionedAttribute[] {
  const below = childrenOf(node).flatMap(mentionedIn);
  const id = fieldOf(node);
  const inner = id === undefined ? undefined : receiverOf(node);
  const domain = inner === undefined ? undefined : fieldOf(inner);
  const outer = domain === undefined || inner === undefined ? undefined : receiverOf(inner);
  const isAttribute = outer !== undefined && fieldOf(outer) === 'attributes';
  return isAttribute && id !== undefined && domain !== undefined ? [...below, { domain, id }] : below;
}

/** The literal name by which a node looks into another. */
function fieldOf(node: ASTNode): string | undefined {
  if (node.op === '.' || node.op === '.?') return node.args[1];
  if (node.op !== '[]' && node.op !== '[?]') return undefined;
  const key = node.args[1];
  return key.op === 'value' && typeof key.args === 'string' ? key.args : undefined;
}

function receiverOf(node: ASTNode): ASTNode | undefined {
  return node.op === '.' || node.op === '.?' || node.op === '[]' || node.op === '[?]'
    ? node.args[0]
    : undefined;
}

/** In the order of the text. */
function childrenOf(node: ASTNode): readonly ASTNode[] {
  switch (node.op) {
    case 'value':
    case 'id':
      return [];
    case '.':
    case '.?':
      return [node.args[0]];
    case 'call':
      return node.args[1];
    case 'rcall':
      return [node.args[1], ...node.args[2]];
    case 'list':
      return node.args;
    case 'map':
      return node.args.flat();
    case '!_':
    case '-_':
      return [node.args];
    default:
      return node.args;
  }
}
