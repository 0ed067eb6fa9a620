/**
 * Draws the level of what a call hears, until the call ends.
 * @param {HTMLCanvasElement} canvas
 * @param {any} call
 * @param {() => any} shown The call whose level is to be seen.
 */
export function meter(canvas, call, shown) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 64;
  context.createMediaStreamSource(call.remoteStream).connect(analyser);
  const pen = canvas.getContext('2d');
  const bins = new Uint8Array(analyser.frequencyBinCount);
  const paint = () => {
    if (call.state === 'ended') {
      context.close();
      return;
    }
    if (pen && shown() === call) {
      analyser.getByteFrequencyData(bins);
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.fillStyle = getComputedStyle(document.body).getPropertyValue('--brand');
      bins.forEach((value, index) => {
        const height = Math.max(2, (value / 255) * canvas.height);
        pen.fillRect(index * 5, canvas.height - height, 3, height);
      });
    }
    requestAnimationFrame(paint);
  };
  paint();
}
