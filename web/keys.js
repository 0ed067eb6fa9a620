/** The keyboard of the desk: one letter for each control, the keypad's characters for tones, Alt with a digit for a line. */

const TONES = '0123456789*#';
/** Letter and the control that it presses. */
export const SHORTCUTS = {
  n: 'to', a: 'answer', r: 'reject', h: 'hold', m: 'mute', v: 'camera', k: 'keypad-toggle', t: 'transfer-toggle', e: 'hang-up',
};

/**
 * @param {{on: () => boolean, line: (index: number) => void, tone: (key: string) => void, waiting: () => void}} desk
 */
export function listenToKeys({ on, line, tone, waiting }) {
  document.addEventListener('keydown', (press) => {
    if (!on() || press.ctrlKey || press.metaKey) return;
    if (press.altKey) {
      const digit = press.code.match(/^Digit([1-9])$/);
      if (digit) {
        press.preventDefault();
        line(Number(digit[1]) - 1);
      }
      return;
    }
    const target = press.target;
    if (target instanceof HTMLInputElement && target.type !== 'checkbox') {
      if (press.key === 'Escape') target.blur();
      return;
    }
    if (TONES.includes(press.key) && press.key.length === 1) {
      tone(press.key);
      return;
    }
    const letter = press.key.toLowerCase();
    // They are about the call that rings, whichever line is on the screen.
    if (letter === 'a' || letter === 'r') waiting();
    const control = document.getElementById(SHORTCUTS[letter] ?? '');
    // What is not on the screen cannot be pressed.
    if (!control?.checkVisibility()) return;
    press.preventDefault();
    if (control instanceof HTMLInputElement) {
      control.focus();
      control.select();
    } else control.click();
  });
}
