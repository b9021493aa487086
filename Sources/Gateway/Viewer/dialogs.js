// Dialogs: signing in, and a question before a bid.

import { call, explain, session } from './api.js';

const $ = (id) => document.getElementById(id);

function open(dialog) {
  dialog.showModal();
  dialog.querySelector('[data-cancel]').onclick = () => dialog.close();
  return new Promise((done) => { dialog.onclose = done; });
}

/** Asks for a yes; resolves to whether it was given. */
export async function confirm(title, text, yes) {
  const dialog = $('confirm');
  let isGiven = false;
  $('confirm-title').textContent = title;
  $('confirm-text').textContent = text;
  $('confirm-yes').textContent = yes;
  dialog.querySelector('form').onsubmit = () => { isGiven = true; };
  await open(dialog);
  return isGiven;
}

/** Lets somebody sign in or register; resolves to whether there is a session now. */
export async function signIn() {
  const dialog = $('sign-in');
  const form = dialog.querySelector('form');
  const note = form.querySelector('.note');
  let isNew = false;
  const show = () => {
    $('sign-in-title').textContent = isNew ? 'Register' : 'Sign in';
    form.querySelector('[type=submit]').textContent = isNew ? 'Register' : 'Sign in';
    $('sign-in-mode').textContent = isNew ? 'I have an account' : 'New here? Register';
    form.querySelector('[data-new]').hidden = !isNew;
    form.email.required = isNew;
    form.password.autocomplete = isNew ? 'new-password' : 'current-password';
    note.textContent = '';
  };
  show();
  $('sign-in-mode').onclick = () => {
    isNew = !isNew;
    show();
  };
  form.onsubmit = async (event) => {
    event.preventDefault();
    const [username, email, password] = [form.username.value.trim(), form.email.value.trim(), form.password.value];
    try {
      session.set(isNew
        ? await call('/api/v1/auth/register', { method: 'POST', body: { username, email, password } })
        : await call('/api/v1/auth/login', { method: 'POST', body: { username, password } }));
      form.password.value = '';
      dialog.close();
    } catch (error) {
      note.textContent = error.status === 401 ? 'Wrong name or password.' : explain(error, String);
    }
  };
  await open(dialog);
  return session.current !== null;
}
