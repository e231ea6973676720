// What every client asks of the server at SERVER_URL, and how a test waits for what it does.

export const url = process.env.SERVER_URL;
// Tokens that would end a reply, never drawn: it goes on until somebody stops it.
export const endless = { logit_bias: JSON.parse(process.env.NEVER_ENDS) };

export const CAPITAL = "What is the capital of Italy?";
export const SUM = "What is 12 + 30?";
export const WEATHER = "What is the weather in Rome?";
export const PERSON = "Ann is 31 years old. Who is it?";
export const STORY = "Tell me a story.";
export const QUESTIONS = [CAPITAL, SUM, WEATHER, "Hello! My name is Ann.", "What is 48 + 37?"];

export const weatherIn = (city) => ({ temperature: 17, city });

export const together = (questions, ask) => Promise.all(questions.map(ask));

export async function oneByOne(questions, ask) {
  const answers = [];
  for (const question of questions) answers.push(await ask(question));
  return answers;
}

export async function isBusy() {
  const slots = await (await fetch(`${url}/slots`)).json();
  return slots.some((slot) => slot.is_processing);
}

/** Whether the server answers nobody any more, within five seconds. */
export async function fallsSilent() {
  for (const deadline = Date.now() + 5000; Date.now() < deadline; ) {
    if (!(await isBusy())) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}
